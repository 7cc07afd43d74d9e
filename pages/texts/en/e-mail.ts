export const forgot = {
  title: 'Forgot your password?',
  intro:
    'Type your username or your e-mail address. If it belongs to an account with a confirmed address, we send a mail there.',
  field: 'Username or e-mail address',
  button: 'Send the mail',
  sentTitle: 'Look into your mail',
  sent: 'If what you typed belongs to an account with a confirmed address, a mail is on its way. Open the link in it. It is good for 15 minutes.',
  late: 'It may take a minute. If nothing comes, look into the spam folder.',
  again: 'Ask for another mail',
  codeTitle: 'Is the mail on another device?',
  codeIntro: 'Then type the code that is in it.',
}

export const reset = {
  title: 'Choose a new password',
  account: 'For the account:',
  note: 'You will be signed out everywhere, and sign in with the new password.',
  button: 'Set the new password',
  doneTitle: 'Your password is changed',
  done: 'You are signed out everywhere. Sign in with the new password.',
}

export const verify = {
  title: 'Confirm your address',
  intro: 'Is this e-mail address yours?',
  button: 'Yes, it is mine',
  note: 'If you did not ask for this, close the page. Nothing happens then.',
  doneTitle: 'Your address is confirmed',
  done: 'You can sign in with it, and we can help you if you forget your password.',
  codeIntro: 'Type the code from the mail that we have sent to your new address.',
  codeButton: 'Confirm the address',
}

export const undo = {
  title: 'Take your old address back',
  intro: 'This becomes the address of your account again:',
  note: 'The new address is removed, and you are signed out everywhere.',
  button: 'Take it back',
  doneTitle: 'Your old address is back',
  done: 'The new one is removed, and you are signed out everywhere. If it was not you who changed the address, somebody knows your password: choose a new one now.',
  next: 'Choose a new password',
}

export const dead = {
  title: 'This link no longer works',
  why: 'It was used already, it is too old, or a newer mail has taken its place.',
  reset: 'Ask for a new mail',
  verify: 'Sign in, and ask for a new mail to confirm your address.',
  undo: 'If somebody else has changed your address, choose a new password now. If that does not work, write to whoever runs this service.',
  invitation: 'Ask whoever has invited you for a new invitation.',
}
