import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import type { Store } from '../../stores/store.ts'
import { Account } from './account.ts'
import { BrowserUser } from './browser-user.ts'
import { NoAnswer, NotSent } from './call.ts'
import { OAuthClient } from './client.ts'
import type { Entity, World } from './entity.ts'
import { Guesser } from './guesser.ts'
import type { SigningKeys } from './keys.ts'
import { SecondFactor } from './second-factor.ts'

/** How many act at once. */
const actors = 8
/** Each crash leaves this share of the active accounts alone from then on. */
const retiringShare = 0.25
/** How many of those are looked at again, at each crash. */
const retiredLookedAt = 10

/** How many are active at a time. */
export interface Size {
  accounts: number
  clients: number
  guessers: number
  factors: number
  browsers: number
}

/** Everybody who uses the service, and what they do at once. */
export function createPopulation(world: World, keys: SigningKeys, size: Size) {
  const active: Entity[] = [keys]
  const retired: Entity[] = []

  function fill(): void {
    const fillWith = (kind: new (world: World) => Entity, most: number) => {
      for (let count = active.filter((one) => one instanceof kind).length; count < most; count++)
        active.push(new kind(world))
    }
    fillWith(Account, size.accounts)
    fillWith(OAuthClient, size.clients)
    fillWith(Guesser, size.guessers)
    fillWith(SecondFactor, size.factors)
    fillWith(BrowserUser, size.browsers)
  }

  function retire(one: Entity): void {
    active.splice(active.indexOf(one), 1)
    // After a guesser was made to wait there is nothing more to ask.
    if (!(one instanceof Guesser)) retired.push(one)
  }

  const any = <T>(list: T[]): T | undefined => list[Math.floor(world.random() * list.length)]
  /** Some of a list, by chance, each once. */
  const some = <T>(list: T[], count: number) =>
    list.length <= count ? list : Array.from(new Set(Array.from({ length: count }, () => any(list) as T)))

  /** Has several act at once, until they are told to stop. @param failed is told of each request without an answer */
  function load(failed: (error: NoAnswer) => void): { stop(): Promise<unknown> } {
    let isOver = false
    const busy = new Set<Entity>()
    fill()
    async function act(): Promise<void> {
      while (!isOver) {
        // Not everything that is done by chance is a request: without a turn of the event loop no answer would come in.
        await turn()
        // Who got no answer waits until it can be seen everywhere what became of it.
        const one = any(active.filter((one) => !busy.has(one) && !one.isInDoubt))
        if (!one) {
          await sleep(20)
          continue
        }
        busy.add(one)
        try {
          await one.proceed()
          if (one.isDone) retire(one)
          fill()
        } catch (error) {
          if (error instanceof NoAnswer) failed(error)
          else if (!(error instanceof NotSent)) throw error
          await sleep(5)
        } finally {
          busy.delete(one)
        }
      }
    }
    const acting = Promise.all(Array.from({ length: actors }, act))
    return {
      stop() {
        isOver = true
        return acting
      },
    }
  }

  async function each(list: Entity[], work: (one: Entity) => Promise<void>): Promise<void> {
    const left = [...list]
    const next = async () => {
      for (let one = left.shift(); one; one = left.shift()) await work(one)
    }
    await Promise.all(Array.from({ length: actors }, next))
  }

  return {
    load,
    /** Finds out what became of each request that was not answered. */
    async settle(): Promise<void> {
      // What became of the keys decides which access tokens are good.
      await keys.settle()
      await each(active, (one) => one.settle())
    },

    /** Looks into the store, for all who have done something since it was looked at last. */
    async checkStored(store: Store): Promise<void> {
      for (const one of active) await one.checkStored(store)
    },

    /** Looks at all who have done something since, and at some of the others; at all in the end. */
    async check({ all = false } = {}): Promise<void> {
      await keys.check()
      await each(
        [...active.filter((one) => one !== keys), ...(all ? retired : some(retired, retiredLookedAt))],
        (one) => one.check(),
      )
      for (const one of active.filter(({ isDone }) => isDone)) retire(one)
      for (const one of some(
        active.filter((one) => one instanceof Account),
        size.accounts * retiringShare,
      ))
        retire(one)
    },
  }
}
