import type { PageTexts } from '../index.ts'

export const signUp: PageTexts['signUp'] = {
  title: '계정 만들기',
  invited: '다음 주소로 초대받으셨습니다.',
  name: '아이디:',
  button: '계정 만들기',
  doneTitle: '계정이 준비되었습니다',
  done: '다음 아이디와 비밀번호로 로그인해 주세요.',
  emailOptional: '이메일 주소 (비워 둘 수 있습니다)',
  emailHint: '비밀번호를 잊었을 때 쓰입니다. 링크가 있는 메일을 보내 드립니다.',
  haveAccount: '계정이 있으신가요?',
  notSignedIn: '아이디와 비밀번호로 로그인해 주세요.',
  closedTitle: '새 계정을 만들 수 없습니다',
  closed: '초대받은 분만 계정을 만들 수 있습니다. 이 서비스의 운영자에게 초대를 부탁해 주세요.',
}
