/** The app, the button and the choices of a sign-in. */
export const signIn = {
  title: 'Sign in',
  forApp: 'To go on to this app:',
  nameOrAddress: 'Username or e-mail address',
  button: 'Sign in',
  withPasskey: 'Sign in with a passkey',
  passkeyFailed: 'The passkey could not be used. Try again, or choose another way.',
  noScript: 'Passkeys need JavaScript, which is off in this browser.',
  noAccount: 'No account yet?',
  wrong: 'The username or the password is wrong',
  over: 'That took too long, or there were too many attempts. Begin again.',
  signedIn: 'You are signed in',
  signedInAs: 'Your username is:',
  goOn: 'Continue',
  another: 'Use another account',
  again: 'Begin again',
}

/** The second step of a sign-in. */
export const factor = {
  title: 'One more step',
  intro: 'Type the code that your authenticator app shows.',
  introPasskey: 'Show that it is you.',
  otp: 'Code from the app, 6 digits',
  withPasskey: 'Use a passkey',
  lost: 'Is your device not at hand?',
  recoveryCode: 'Recovery code',
  recoveryHint: 'One of the ten that you have kept. Each works once.',
  wrongCode: 'The code is wrong, or was used already. Wait for the next one.',
  wrongRecoveryCode: 'The code is wrong, or was used already',
  wrongPasskey: 'The passkey was not accepted. Try again, or choose another way.',
}

/** Adding a first second factor, where one is demanded. */
export const enrol = {
  title: 'Add a second step',
  intro: 'This service asks you for more than a password. Choose what you want to sign in with from now on, beside it.',
  totp: 'Authenticator app',
  webauthn: 'Passkey',
  totpTitle: 'Connect your authenticator app',
  scan: 'Scan this picture with the app, and type the code that it shows.',
  qrAlt: 'QR code for the authenticator app. The same key stands below as text.',
  noCamera: 'You cannot scan it?',
  typeKey: 'Type this key into the app:',
  openApp: 'Open the app on this device',
  passkeyIntro: 'Your device asks for your fingerprint, your face or its PIN, and keeps the passkey.',
  makePasskey: 'Make a passkey',
  passkeyFailed: 'No passkey was made. Try again, or begin again and choose the app.',
}

/** A sign-in that has taken too long, or of which this browser knows nothing. */
export const stale = {
  title: 'This sign-in is over',
  text: 'It has taken too long, or it was begun in another browser. Go back to where you came from, and begin again there. Your browser has to take cookies from this site.',
}
