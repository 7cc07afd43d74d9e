import { distance } from 'fastest-levenshtein'

/**
 * Variables that Kubernetes sets for each Service: those of one called `auth` or `auth-metrics` are named like
 * settings.
 */
const fromKubernetes = {
  name: /^AUTH_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/,
  value: /^(tcp|udp|sctp):\/\//,
}

/** Whether a variable with the name of a setting was set by Kubernetes. */
export const isFromKubernetes = (name: string, text: string): boolean =>
  name.startsWith('AUTH_') && fromKubernetes.value.test(text)

/** @returns a warning for each variable that looks like a setting and is none */
export function unknownNames(env: Record<string, string | undefined>, names: string[]): string[] {
  return Object.entries(env)
    .filter(([name]) => name.startsWith('AUTH_') && !names.includes(name) && !fromKubernetes.name.test(name))
    .filter(([, text]) => !fromKubernetes.value.test(text ?? ''))
    .map(([name]) => {
      const nearest = names.reduce((best, candidate) =>
        distance(name, candidate) < distance(name, best) ? candidate : best,
      )
      return `${name} is no setting of Latchkey and is ignored; did you mean ${nearest}?`
    })
}
