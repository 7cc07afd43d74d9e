/* `security` of a route in the OpenAPI document, by the schemes that `plugins/http/openapi.ts` defines. */

/** An access token. */
export const withToken = [{ login: [] }, { bearer: [] }]
/** An access token with the scope `admin`. */
export const withAdminToken = [{ login: ['admin'] }, { bearer: [] }]
/** An access token, or none. */
export const maybeWithToken = [{}, ...withToken]
/** The client's credentials. */
export const withClient = [{ client: [] }]
/** The client's credentials, or none for a public client. */
export const maybeWithClient = [{}, ...withClient]
