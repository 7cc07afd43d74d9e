/** What a user has allowed an app, so that nobody is asked twice. */
export interface Consent {
  clientId: string
  /** of the client, as in `Session`: another may come under the same id */
  clientCreatedAt?: number
  scope: string[]
  grantedAt: number
}

/** All that a user has allowed, changed by compare-and-set of the version: one row for each user who has. */
export interface UserConsents {
  userId: string
  consents: Consent[]
  version: number
}

/** Whether an app may have a scope without asking. */
export const covers = (
  consents: Consent[],
  { clientId, clientCreatedAt }: Pick<Consent, 'clientId' | 'clientCreatedAt'>,
  scope: string[],
): boolean =>
  consents.some(
    (given) =>
      given.clientId === clientId &&
      given.clientCreatedAt === clientCreatedAt &&
      scope.every((name) => given.scope.includes(name)),
  )
