import type { PageTexts } from '../index.ts'
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

/** What the pages say, in Korean. No particle follows a name or an address: these stand on lines of their own. */
export const ko: PageTexts = {
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
