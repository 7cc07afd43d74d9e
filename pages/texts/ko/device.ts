import type { PageTexts } from '../index.ts'

export const device: PageTexts['device'] = {
  title: '기기에서 로그인',
  intro: '기기나 명령줄에 표시된 코드를 입력해 주세요.',
  field: '코드',
  hint: 'BCDF-GHJK처럼 글자 8개입니다. 빈칸과 하이픈은 없어도 됩니다.',
  button: '계속',
  wrong: '이 코드로 기다리는 기기가 없습니다. 한 글자씩 비교해 주세요. 10분이 지나면 기기에서 새 코드를 받아야 합니다.',

  askTitle: '이 기기의 로그인을 허용할까요?',
  app: '기기에서 실행 중인 앱:',
  code: '기기에 표시되어 있어야 하는 코드:',
  address: '네트워크 주소',
  asked: '코드를 만든 때',
  minutesAgo: (minutes) => (minutes < 1 ? '1분 이내' : `${minutes}분 전`),
  warning:
    '직접, 본인의 기기에서 시작한 경우에만 허용해 주세요. 다른 사람이 코드나 이 링크를 보냈거나 불러 주었다면 계정을 노리는 것이니 허용하지 마세요.',

  allowedTitle: '기기로 돌아가 주세요',
  allowed: '몇 초 안에 로그인됩니다. 이 페이지는 닫아도 됩니다.',
  toAccount: '로그인된 기기 모두 보기',
  refusedTitle: '기기의 로그인을 허용하지 않았습니다',
  refused: '기기에는 아무것도 전달되지 않습니다. 직접 시작한 일이 아니라면 더 할 일은 없습니다.',
  lacksRole: '이 계정으로는 허용할 수 없습니다. 앱이 관리자 권한을 요청했습니다.',
}
