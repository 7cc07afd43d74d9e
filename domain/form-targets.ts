/**
 * Where the forms of a page may lead that ends in an app, for `form-action` of its Content-Security-Policy, beside
 * `'self'`. Chromium and Safari hold a form to it through all redirects that follow, also through those of the app
 * itself, which may well lead to another host of its own: the origin alone would leave people on a dead page there. So it
 * is the scheme that is named too. An IPv6 address cannot be named at all (CSP3 §2.3.1).
 */
export function formTargetsOf(redirectUri: string): string[] {
  const { protocol, host } = new URL(redirectUri)
  if (protocol !== 'https:' && protocol !== 'http:') return [protocol]
  return [
    ...(host.startsWith('[') ? [] : [`${protocol}//${host}`]),
    ...(protocol === 'http:' ? ['http:'] : []),
    'https:',
  ]
}
