import { checkFile, StoreDamaged } from './file.ts'

/* The process that reads a large embedded store beside the start of the service, and says what is wrong with it. */

try {
  checkFile(process.argv[2] as string)
} catch (error) {
  // What else keeps it from reading keeps the service, and is said there.
  if (error instanceof StoreDamaged) process.stdout.write(error.message)
}
