/** What a browser shows that leads back to an app by a form. */
export const formPost = {
  title: 'Back to the app',
  text: 'If nothing happens, go on by the button.',
  button: 'Go on to the app',
}
