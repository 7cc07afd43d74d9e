/** Access tokens end: when, and when the last of them will have expired. */
export interface End {
  now: number
  expiresAt: number
}
