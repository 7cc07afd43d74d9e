export const signUp = {
  title: 'Create your account',
  invited: 'You are invited with this address:',
  name: 'Your username is:',
  button: 'Create the account',
  doneTitle: 'Your account is ready',
  done: 'Sign in with this name and your password:',
}
