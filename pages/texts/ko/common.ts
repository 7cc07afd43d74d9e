import type { common as english } from '../en/common.ts'

/** What several pages say. */
export const common: typeof english = {
  errorPrefix: '오류: ',
  errorTitle: '다시 확인해 주세요',

  username: '아이디',
  email: '이메일 주소',
  emailRule: '이메일 주소가 아닙니다',
  newPassword: '새 비밀번호',
  password: '비밀번호',
  passwordHint: (least) => `${least}자 이상. 단어 몇 개를 이어 쓰면 됩니다.`,
  code: '메일에 있는 코드 (숫자 8자리)',

  missing: '이 항목이 비어 있습니다',
  passwordProblems: {
    shorter: (least) => `비밀번호는 ${least}자 이상이어야 합니다`,
    longer: '비밀번호는 256자를 넘을 수 없습니다',
    name: '아이디와 같거나 비슷한 비밀번호는 쓸 수 없습니다',
    service: '이 서비스의 이름과 같거나 비슷한 비밀번호는 쓸 수 없습니다',
    common: '공격자가 가장 먼저 시도하는 비밀번호입니다. 다른 것을 정해 주세요',
    walk: '키보드 배열이나 숫자, 글자의 순서로 된 비밀번호는 쓸 수 없습니다',
    repeat: '같은 글자나 짧은 말을 되풀이한 비밀번호는 쓸 수 없습니다',
    unexplained: '추측하기 쉬운 비밀번호입니다. 단어를 몇 개 더해 주세요',
  },
  usernameRule: "아이디에는 글자, 숫자와 . _ - @ + ' 만 쓸 수 있고, 최대 254자입니다",
  usernameTaken: '이미 쓰이고 있는 아이디입니다. 다른 것을 정해 주세요',
  wrongCode: '코드가 틀렸거나 더 이상 쓸 수 없습니다',
  wait: (minutes) => `시도가 너무 많습니다. ${Math.max(1, minutes)}분 뒤에 다시 시도해 주세요.`,
  busy: '지금은 요청이 많습니다. 잠시 뒤에 다시 시도해 주세요.',
}
