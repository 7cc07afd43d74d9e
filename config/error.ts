/** A setting that is wrong or unsafe; the process ends with exit code 78 (EX_CONFIG of sysexits.h). */
export class ConfigError extends Error {}
