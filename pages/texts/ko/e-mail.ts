import type { PageTexts } from '../index.ts'

export const forgot: PageTexts['forgot'] = {
  title: '비밀번호를 잊으셨나요?',
  intro: '아이디나 이메일 주소를 입력해 주세요. 확인된 주소가 있는 계정이면 그 주소로 메일을 보냅니다.',
  field: '아이디 또는 이메일 주소',
  button: '메일 보내기',
  sentTitle: '메일을 확인해 주세요',
  sent: '입력하신 내용이 확인된 주소가 있는 계정의 것이라면 메일을 보냈습니다. 메일에 있는 링크를 여세요. 15분 동안 쓸 수 있습니다.',
  late: '도착까지 1분쯤 걸릴 수 있습니다. 오지 않으면 스팸 메일함도 확인해 주세요.',
  again: '메일 다시 받기',
  codeTitle: '다른 기기에서 메일을 보고 계신가요?',
  codeIntro: '메일에 있는 코드를 여기에 입력해 주세요.',
}

export const reset: PageTexts['reset'] = {
  title: '새 비밀번호 정하기',
  account: '계정:',
  note: '모든 기기에서 로그아웃되며, 새 비밀번호로 다시 로그인하게 됩니다.',
  button: '비밀번호 바꾸기',
  doneTitle: '비밀번호가 바뀌었습니다',
  done: '모든 기기에서 로그아웃되었습니다. 새 비밀번호로 로그인해 주세요.',
}

export const verify: PageTexts['verify'] = {
  title: '이메일 주소 확인',
  intro: '본인의 이메일 주소가 맞나요?',
  button: '네, 맞습니다',
  note: '요청하신 적이 없다면 이 페이지를 닫아 주세요. 아무것도 바뀌지 않습니다.',
  doneTitle: '주소가 확인되었습니다',
  done: '이제 이 주소로 로그인할 수 있고, 비밀번호를 잊었을 때 도움을 받을 수 있습니다.',
  codeIntro: '새 주소로 보낸 메일에 있는 코드를 입력해 주세요.',
  codeButton: '주소 확인하기',
}

export const undo: PageTexts['undo'] = {
  title: '예전 주소 되찾기',
  intro: '다음 주소가 다시 계정의 주소가 됩니다.',
  note: '새 주소는 삭제되고 모든 기기에서 로그아웃됩니다.',
  button: '되찾기',
  doneTitle: '예전 주소로 돌아왔습니다',
  done: '새 주소는 삭제되었고 모든 기기에서 로그아웃되었습니다. 직접 바꾸신 것이 아니라면 누군가 비밀번호를 알고 있습니다. 지금 새 비밀번호를 정해 주세요.',
  next: '새 비밀번호 정하기',
}

export const dead: PageTexts['dead'] = {
  title: '더 이상 쓸 수 없는 링크입니다',
  why: '이미 사용했거나, 기한이 지났거나, 더 새로운 메일이 있습니다.',
  reset: '메일 다시 받기',
  verify: '로그인한 뒤 확인 메일을 다시 요청해 주세요.',
  undo: '다른 사람이 주소를 바꾸었다면 지금 새 비밀번호를 정해 주세요. 그래도 안 되면 이 서비스의 운영자에게 알려 주세요.',
  invitation: '초대한 분에게 새 초대를 부탁해 주세요.',
}
