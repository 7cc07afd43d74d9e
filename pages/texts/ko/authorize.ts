/** What a browser shows that leads back to an app by a form. */
export const formPost = {
  title: '앱으로 돌아가기',
  text: '화면이 바뀌지 않으면 버튼을 눌러 주세요.',
  button: '앱으로 계속하기',
}
