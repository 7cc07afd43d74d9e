import type { PageTexts } from '../index.ts'

export const signOut: PageTexts['signOut'] = {
  title: '로그아웃할까요?',
  byApp: '이곳으로 보낸 앱:',
  account: '지금 로그인한 계정:',
  what: '이 브라우저에서 로그아웃하고, 여기에서 로그인한 앱에서도 로그아웃합니다.',
  button: '로그아웃',
  stay: '로그인 유지',
  notBack: '앱이 보낸 요청을 받아들일 수 없어 앱으로 돌아가지 않습니다. 앱의 운영자에게 다음 내용을 알려 주세요.',
  doneTitle: '로그아웃했습니다',
  done: '이제 이 브라우저에는 로그인한 사람이 없습니다.',
  toApp: '앱으로 돌아가기',
  again: '다시 로그인',
}
