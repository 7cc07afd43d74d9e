import { isUuid } from '../../domain/ids.ts'

export const firstUuid = '00000000-0000-0000-0000-000000000000'
export const lastUuid = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

export const uuidOrNull = (text: string | undefined) => (text !== undefined && isUuid(text) ? text : null)

/** Whether two texts are where a page ordered by creation ends. */
export const isPosition = (createdAt: string, id: string) => /^[0-9]{1,15}$/.test(createdAt) && isUuid(id)
