import * as account from './account.ts'
import * as authorize from './authorize.ts'
import { common } from './common.ts'
import * as consent from './consent.ts'
import * as device from './device.ts'
import * as email from './e-mail.ts'
import * as failures from './failures.ts'
import * as signIn from './sign-in.ts'
import * as signOut from './sign-out.ts'
import * as signUp from './sign-up.ts'

/** What the pages say, in English: a group for each page. Names and addresses stand on lines of their own, see `page.ts`. */
export const en = {
  ...common,
  ...account,
  ...consent,
  ...device,
  ...authorize,
  ...email,
  ...failures,
  ...signIn,
  ...signOut,
  ...signUp,
}
