export const signOut = {
  title: 'Sign out?',
  byApp: 'You were sent here by:',
  account: 'You are signed in as:',
  what: 'You will be signed out in this browser, and of the apps that you have signed in to from here.',
  button: 'Sign out',
  stay: 'Stay signed in',
  notBack:
    'The app has sent you here in a way that this service does not accept, so you are not led back to it. Tell whoever runs the app this:',
  doneTitle: 'You are signed out',
  done: 'Nobody is signed in in this browser any more.',
  toApp: 'Back to the app',
  again: 'Sign in again',
}
