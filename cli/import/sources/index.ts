import type { Source } from '../imported-user.ts'
import { auth0 } from './auth0.ts'
import { betterAuth } from './better-auth.ts'
import { cognito } from './cognito.ts'
import { django } from './django.ts'
import { firebase } from './firebase.ts'
import { keycloak } from './keycloak.ts'
import { latchkey } from './latchkey.ts'
import { supabase } from './supabase.ts'
import { wordpress } from './wordpress.ts'

/** By the names that `--from` takes. */
export const sources = {
  latchkey,
  auth0,
  firebase,
  keycloak,
  django,
  wordpress,
  supabase,
  'better-auth': betterAuth,
  cognito,
} satisfies Record<string, Source>

export type SourceName = keyof typeof sources
