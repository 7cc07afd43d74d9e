/** Finished logins resume in batches: at most 32, or after 200 ms. */
const maxBatch = 32
const longestHoldMs = 200
/** Resumed in one turn of the event loop: others are not to wait for the whole batch. */
const maxTogether = 8

/**
 * Lets logins whose hash is done resume together, while enough others wait to keep the hashing threads busy.
 *
 * A hash goes through 19 MiB and evicts everything that the rest of a login would find in the processor's caches. In a
 * batch that rest is read from memory once for all, and takes half as long. None is held longer than those who wait now
 * are going to wait.
 *
 * @param concurrency hashes at once
 */
export function createLoginBatch(concurrency: number) {
  let finished: (() => void)[] = []
  let timer: NodeJS.Timeout | undefined

  /** Resumes all that have finished. */
  function flush(): void {
    clearTimeout(timer)
    timer = undefined
    resumeAll(finished)
    finished = []
  }

  return {
    flush,

    /**
     * @param waiting requests in the admission queue
     * @param hashMs what a hash takes
     * @returns when the batch resumes; undefined when there is nothing to wait for
     */
    nextBatch(waiting: number, hashMs: number): Promise<void> | undefined {
      const isFilling = waiting >= concurrency && hashMs / concurrency < longestHoldMs / 2
      if (finished.length === 0 && !isFilling) return undefined
      return new Promise((resume) => {
        finished.push(resume)
        if (finished.length >= maxBatch || !isFilling) flush()
        else timer ??= setTimeout(flush, Math.min(longestHoldMs, (waiting * hashMs) / concurrency))
      })
    },
  }
}

function resumeAll(batch: (() => void)[]): void {
  for (const one of batch.splice(0, maxTogether)) one()
  if (batch.length > 0) setImmediate(resumeAll, batch)
}
