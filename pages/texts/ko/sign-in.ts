import type { PageTexts } from '../index.ts'

export const signIn: PageTexts['signIn'] = {
  title: '로그인',
  forApp: '로그인한 뒤 이어질 앱:',
  nameOrAddress: '아이디 또는 이메일 주소',
  button: '로그인',
  withPasskey: '패스키로 로그인',
  passkeyFailed: '패스키를 쓸 수 없었습니다. 다시 시도하거나 다른 방법을 골라 주세요.',
  noScript: '패스키를 쓰려면 이 브라우저에서 자바스크립트를 켜야 합니다.',
  noAccount: '계정이 없으신가요?',
  wrong: '아이디 또는 비밀번호가 틀렸습니다',
  over: '시간이 너무 지났거나 시도가 너무 많았습니다. 처음부터 다시 시작해 주세요.',
  signedIn: '로그인되어 있습니다',
  signedInAs: '아이디:',
  goOn: '계속하기',
  another: '다른 계정 사용하기',
  again: '처음부터 다시',
}

export const factor: PageTexts['factor'] = {
  title: '한 단계 더',
  intro: '인증 앱에 표시된 코드를 입력해 주세요.',
  introPasskey: '본인인지 확인해 주세요.',
  otp: '인증 앱의 코드 (숫자 6자리)',
  withPasskey: '패스키 사용하기',
  lost: '기기가 곁에 없으신가요?',
  recoveryCode: '복구 코드',
  recoveryHint: '보관해 두신 열 개 가운데 하나입니다. 각각 한 번만 쓸 수 있습니다.',
  wrongCode: '코드가 틀렸거나 이미 사용되었습니다. 다음 코드를 기다려 주세요.',
  wrongRecoveryCode: '코드가 틀렸거나 이미 사용되었습니다',
  wrongPasskey: '패스키가 받아들여지지 않았습니다. 다시 시도하거나 다른 방법을 골라 주세요.',
}

export const enrol: PageTexts['enrol'] = {
  title: '두 번째 단계 추가하기',
  intro: '이 서비스는 비밀번호만으로 로그인할 수 없습니다. 앞으로 비밀번호와 함께 쓸 방법을 골라 주세요.',
  totp: '인증 앱',
  webauthn: '패스키',
  totpTitle: '인증 앱 연결하기',
  scan: '인증 앱으로 이 그림을 스캔하고, 앱에 표시된 코드를 입력해 주세요.',
  qrAlt: '인증 앱을 위한 QR 코드. 같은 키가 아래에 글자로 있습니다.',
  noCamera: '스캔할 수 없으신가요?',
  typeKey: '이 키를 앱에 입력해 주세요.',
  openApp: '이 기기에서 앱 열기',
  passkeyIntro: '기기가 지문이나 얼굴, PIN을 확인하고 패스키를 보관합니다.',
  makePasskey: '패스키 만들기',
  passkeyFailed: '패스키가 만들어지지 않았습니다. 다시 시도하거나, 처음부터 다시 시작해 앱을 골라 주세요.',
}

export const stale: PageTexts['stale'] = {
  title: '로그인이 끝났습니다',
  text: '시간이 너무 지났거나 다른 브라우저에서 시작한 로그인입니다. 처음 있던 곳으로 돌아가 다시 시작해 주세요. 브라우저에서 이 사이트의 쿠키를 허용해야 합니다.',
}
