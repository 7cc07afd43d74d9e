export const device = {
  title: 'Sign in on a device',
  intro: 'Type the code that the device, or the command line, shows.',
  field: 'Code',
  hint: 'Eight letters, such as BCDF-GHJK. Spaces and hyphens do not matter.',
  button: 'Continue',
  wrong:
    'No device waits with this code. Compare it letter by letter; after ten minutes the device has to show another.',

  askTitle: 'Let this device sign in?',
  app: 'The app on the device:',
  code: 'It has to show this code:',
  address: 'Network address',
  asked: 'Code made',
  minutesAgo: (minutes: number) =>
    minutes < 1 ? 'less than a minute ago' : minutes === 1 ? 'a minute ago' : `${minutes} minutes ago`,
  warning:
    'Allow it only if you have started this yourself, on a device of yours. If somebody has sent you the code or this link, or reads it to you, they are after your account: do not allow it.',

  allowedTitle: 'Go back to the device',
  allowed: 'It is signed in within a few seconds. You can close this page.',
  toAccount: 'See all devices that are signed in',
  refusedTitle: 'The device was not allowed in',
  refused: 'It gets nothing. If you did not start this, nothing else is to be done.',
  lacksRole: 'Your account may not allow this: the app asks for what only administrators have.',
}
