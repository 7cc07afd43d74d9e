/** Whether an app may have what it asks for. */
export const consent = {
  title: 'Allow this app?',
  app: 'This app wants to use your account:',
  gets: 'It would be able to:',
  scopes: {
    openid: 'Know that it is you, each time you come',
    profile: 'See your username',
    email: 'See your e-mail address, and whether it is confirmed',
    offline_access: 'Stay signed in when you sign out here, until you take that back',
  },
  admin: 'Administer this service: all users, clients and keys',
  other: 'Use what its service calls',
  leadsTo: 'Leads back to',
  at: 'For use at',
  allow: 'Allow',
  deny: 'Do not allow',
}

/** Somebody has come to the question without an app. */
export const noConsent = {
  title: 'There is nothing to allow',
  text: 'No app has asked for anything here. Go back to the app, and begin again there.',
}
