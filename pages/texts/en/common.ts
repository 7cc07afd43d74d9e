/** What several pages say. */
export const common = {
  errorPrefix: 'Error: ',
  errorTitle: 'Something is not right yet',

  username: 'Username',
  email: 'E-mail address',
  emailRule: 'This is no e-mail address',
  newPassword: 'New password',
  password: 'Password',
  passwordHint: (least: number) => `At least ${least} characters. A few words in a row will do.`,
  code: 'Code from the mail, 8 digits',

  missing: 'This field is empty',
  passwordProblems: {
    shorter: (least: number) => `The password needs at least ${least} characters`,
    longer: 'The password may have at most 256 characters',
    name: 'The password must not be your username, or little more than it',
    service: 'The password must not be the name of this service, or little more than it',
    common: 'Attackers try this password, or its parts, first: choose another',
    walk: 'The password must not be a row of the keyboard, of digits or of letters',
    repeat: 'The password must not be one piece over and over',
    unexplained: 'The password is too easy to guess: add a few words',
  },
  usernameRule: "A username has letters, digits and . _ - @ + ' only, 254 at most",
  usernameTaken: 'This username is taken: choose another',
  wrongCode: 'The code is wrong, or no longer good',
  wait: (minutes: number) =>
    minutes <= 1 ? 'Too many attempts. Try again in a minute.' : `Too many attempts. Try again in ${minutes} minutes.`,
  busy: 'The service is busy. Try again in a moment.',
}
