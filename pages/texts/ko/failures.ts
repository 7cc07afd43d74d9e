import type { PageTexts } from '../index.ts'

export const foreign: PageTexts['foreign'] = {
  title: '다른 곳에서 보낸 양식입니다',
  text: '안전을 위해 받지 않았습니다. 메일에 있는 링크를 다시 열거나 이 서비스의 주소를 직접 입력해 주세요.',
}

export const failed: PageTexts['failed'] = {
  title: '처리하지 못했습니다',
  unreadable: '브라우저가 보낸 내용을 읽을 수 없습니다. 뒤로 가서 페이지를 새로 고친 다음 다시 시도해 주세요.',
  missing: '없는 페이지입니다.',
  inside: '저희 쪽 문제입니다. 몇 분 뒤에 다시 시도해 주세요. 계속되면 이 서비스의 운영자에게 이 번호를 알려 주세요.',
}
