import type { Texts } from './texts.ts'

const openPage = 'Open this page and press the button there:'
const enterCode = 'Or enter this code where you are asked for it:'
const life = 'Link and code work once, and for {life}: until {until}.'
const lifeOfLink = 'The link works once, and for {life}: until {until}.'
const wasYou = 'If it was you, there is nothing to do.'

export const en: Texts = {
  language: 'en-GB',
  zone: { id: 'UTC', name: 'UTC' },
  facts: {
    username: 'Account',
    at: 'Time',
    how: 'How',
    what: 'What',
    left: 'Recovery codes left',
    device: 'Device',
    address: 'IP address',
  },
  ways: {
    changed: 'by somebody who was signed in and knew the old password',
    reset: 'by a link or code that was mailed to this address',
    set: 'by an administrator',
  },
  factorChanges: {
    totp_added: 'an authenticator app was added',
    webauthn_added: 'a passkey was added',
    totp_removed: 'an authenticator app was removed',
    webauthn_removed: 'a passkey was removed',
    recovery_code_removed: 'the recovery codes were removed',
    codes_made: 'new recovery codes were made; those before are good no more',
    code_used: 'somebody signed in with a recovery code',
    reset: 'an administrator removed all of them; every device was signed out',
  },
  mails: {
    verify: {
      subject: '{service}: confirm your e-mail address',
      action: 'Confirm the address',
      paragraphs: [
        'You get this mail because this address was given for an account at {service}. Please confirm that ' +
          'it is yours.',
        openPage,
        '{link}',
        enterCode,
        '{code}',
        life,
        'If it was not you, do nothing: without the link or the code nobody can use your address. ' +
          'Do not pass them on.',
      ],
    },
    change: {
      subject: '{service}: confirm your new e-mail address',
      action: 'Confirm the address',
      paragraphs: [
        'You get this mail because somebody asked for this to be the new address of an account at ' +
          '{service}. Please confirm that it is yours.',
        openPage,
        '{link}',
        enterCode,
        '{code}',
        life,
        'If it was not you, do nothing: the account keeps the address that it has. Do not pass ' +
          'the link or the code on.',
      ],
    },
    reset: {
      subject: '{service}: set a new password',
      action: 'Set a new password',
      paragraphs: [
        'You get this mail because somebody asked for a new password for your account at {service}.',
        '{facts}',
        'Open this page and set one there:',
        '{link}',
        enterCode,
        '{code}',
        life,
        'If it was not you, do nothing: your password stays as it is. Do not pass the link or ' +
          'the code on, whoever asks.',
      ],
    },
    undo: {
      subject: '{service}: somebody wants to change your e-mail address',
      action: 'Keep this address',
      paragraphs: [
        'You get this mail because somebody asked for another e-mail address for your account at ' +
          '{service}, which has this one.',
        '{facts}',
        'If it was you, there is nothing to do here: confirm the new address by the mail that was sent to it.',
        'If it was not you, somebody knows your password. Open this page and press the button there: this ' +
          'address stays, or comes back, and every device is signed out. Then set a new password at once, by ' +
          '"forgotten password" where you sign in.',
        '{link}',
        lifeOfLink,
      ],
    },
    invitation: {
      subject: '{service}: your invitation',
      action: 'Make your account',
      paragraphs: [
        'You get this mail because an administrator of {service} invites you to have an account there.',
        'Open this page to make it and to choose a password:',
        '{link}',
        lifeOfLink,
        'If you do not want an account, or do not know {service}, do nothing. Do not pass the link on.',
      ],
    },
    address_taken: {
      subject: '{service}: you have an account already',
      paragraphs: [
        'You get this mail because somebody gave this address for an account at {service}, where you have ' +
          'one with this address already.',
        '{facts}',
        'If it was you, sign in to that account. If you have forgotten its password, ask for a new one ' +
          'where you sign in.',
        'If it was not you, do nothing: your account has not changed, and whoever it was is not told that ' +
          'you have one.',
      ],
    },
    sign_in: {
      subject: '{service}: a sign-in from a new place',
      paragraphs: [
        'You get this mail because somebody signed in to your account at {service} from a new place: no earlier ' +
          'sign-in came with this device from this network.',
        '{facts}',
        wasYou,
        'If it was not you, somebody knows your password. Set a new one at once: every other device is ' +
          'signed out by that. Where you have used the same password elsewhere, change it there, too.',
      ],
    },
    password_changed: {
      subject: '{service}: your password was changed',
      paragraphs: [
        'You get this mail because the password of your account at {service} was changed.',
        '{facts}',
        wasYou,
        'If it was not you, ask for a new password at once, by "forgotten password" where you sign in: the ' +
          'link comes to this address, and by setting one every device is signed out. If you have reason to ' +
          'think that somebody reads your mails, change the password of your mailbox first.',
      ],
    },
    email_changed: {
      subject: '{service}: your e-mail address was changed',
      paragraphs: [
        'You get this mail because your account at {service} had this e-mail address until now, and has ' +
          'another one from now on. This is the last mail to this address about it.',
        '{facts}',
        wasYou,
        'If it was not you, look for our mail from when the change was asked for: its link brings this ' +
          'address back. If there is none, turn to those who run {service}.',
      ],
    },
    refresh_reused: {
      subject: '{service}: you were signed out to protect your account',
      paragraphs: [
        'You get this mail because a key that keeps you signed in at {service} was used a second time. ' +
          'That happens when somebody has copied it, and seldom by a fault of an app. The sign-in that it ' +
          'belonged to was ended.',
        '{facts}',
        'If that was you, just sign in again.',
        'If it was not you, or if it happens again, set a new password: every other device is signed out ' +
          'by that. Look for harmful software on the devices that you sign in with.',
      ],
    },
    factor_changed: {
      subject: '{service}: your second factor was changed or used',
      paragraphs: [
        'You get this mail because a second factor of your account at {service} was changed or used: a passkey, ' +
          'an authenticator app or recovery codes.',
        '{facts}',
        wasYou,
        'If it was not you, set a new password at once, by "forgotten password" where you sign in: every ' +
          'device is signed out by that. Then sign in, remove what is not yours, and make new recovery codes. If ' +
          'you cannot sign in any more, turn to those who run {service}.',
      ],
    },
  },
}
