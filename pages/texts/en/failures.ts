export const foreign = {
  title: 'This form came from elsewhere',
  text: 'For your safety it was not accepted. Open the link in your mail again, or type the address of this service yourself.',
}

export const failed = {
  title: 'That did not work',
  unreadable: 'What your browser sent could not be read. Go back, load the page again, and try once more.',
  missing: 'There is no such page.',
  inside: 'The fault is ours. Try again in a few minutes. If it stays, tell whoever runs this service this number:',
}
