import type { FastifyInstance } from 'fastify'
import type { Position } from '../../domain/webhook.ts'
import { createPositions as positionsOf } from '../run/positions.ts'

export type Positions = ReturnType<typeof createPositions>

/** Where each endpoint is, by its id. */
export const createPositions = (app: Pick<FastifyInstance, 'store' | 'now'>) =>
  positionsOf<Position>(app, 'webhook', (cursor) => ({ cursor, had: [], failures: 0 }))
