export const signUp = {
  title: 'Create your account',
  invited: 'You are invited with this address:',
  name: 'Your username is:',
  button: 'Create the account',
  doneTitle: 'Your account is ready',
  done: 'Sign in with this name and your password:',
  emailOptional: 'E-mail address (may be left empty)',
  emailHint: 'For when you forget your password. A mail with a link comes there.',
  haveAccount: 'You have an account?',
  notSignedIn: 'Sign in with your name and your password.',
  closedTitle: 'No new accounts here',
  closed: 'Accounts are made by invitation only. Ask whoever runs this service for one.',
}
