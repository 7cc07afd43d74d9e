import type { PageTexts } from '../index.ts'

export const foreign: PageTexts['foreign'] = {
  title: '양식을 받을 수 없습니다',
  text: '다른 페이지에서 보냈거나, 너무 오래되었거나, 함께 있어야 할 쿠키가 없습니다. 뒤로 가서 페이지를 새로 고친 다음 다시 시도해 주세요. 그래도 안 되면 브라우저에서 이 사이트의 쿠키를 허용해 주세요.',
}

export const failed: PageTexts['failed'] = {
  title: '처리하지 못했습니다',
  unreadable: '브라우저가 보낸 내용을 읽을 수 없습니다. 뒤로 가서 페이지를 새로 고친 다음 다시 시도해 주세요.',
  missing: '없는 페이지입니다.',
  inside: '저희 쪽 문제입니다. 몇 분 뒤에 다시 시도해 주세요. 계속되면 이 서비스의 운영자에게 이 번호를 알려 주세요.',
}

export const appFailed: PageTexts['appFailed'] = {
  title: '이 앱으로 로그인할 수 없습니다',
  text: '앱이 보낸 요청을 받아들일 수 없습니다. 앱으로 돌아가 다시 시도해 주세요. 계속되면 앱의 운영자에게 다음 내용을 알려 주세요.',
}
