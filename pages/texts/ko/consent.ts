import type { PageTexts } from '../index.ts'

export const consent: PageTexts['consent'] = {
  title: '이 앱을 허용할까요?',
  app: '다음 앱이 계정을 사용하려고 합니다.',
  gets: '허용하면 앱이 할 수 있는 일:',
  scopes: {
    openid: '방문할 때마다 본인임을 확인하기',
    profile: '아이디 보기',
    email: '이메일 주소와 확인 여부 보기',
    offline_access: '여기에서 로그아웃해도, 허용을 취소할 때까지 로그인 유지하기',
  },
  admin: '이 서비스 전체 관리: 모든 사용자, 클라이언트, 키',
  other: '앱의 서비스에서 정한 권한 사용하기:',
  leadsTo: '돌아갈 곳',
  at: '사용할 곳',
  allow: '허용',
  deny: '허용 안 함',
}

export const noConsent: PageTexts['noConsent'] = {
  title: '허용할 것이 없습니다',
  text: '앱이 요청한 내용이 없습니다. 앱으로 돌아가 다시 시작해 주세요.',
}
