import type { PageTexts } from '../index.ts'

export const signUp: PageTexts['signUp'] = {
  title: '계정 만들기',
  invited: '다음 주소로 초대받으셨습니다.',
  name: '아이디:',
  button: '계정 만들기',
  doneTitle: '계정이 준비되었습니다',
  done: '다음 아이디와 비밀번호로 로그인해 주세요.',
}
