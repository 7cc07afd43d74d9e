export const foreign = {
  title: 'This form could not be accepted',
  text: 'It was sent from another page, or too long ago, or without the cookie that belongs to it. Go back, load the page again, and try once more. If that does not help, let your browser take cookies from this site.',
}

export const failed = {
  title: 'That did not work',
  unreadable: 'What your browser sent could not be read. Go back, load the page again, and try once more.',
  missing: 'There is no such page.',
  inside: 'The fault is ours. Try again in a few minutes. If it stays, tell whoever runs this service this number:',
}

/** What an app has asked for that may not be answered to the app itself. */
export const appFailed = {
  title: 'This app cannot sign you in',
  text: 'It has asked in a way that this service does not accept. Go back to the app and try once more. If it stays, tell whoever runs the app this:',
}
