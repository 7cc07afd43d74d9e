import { fold } from './password-guesses.ts'

/** The package lists short English passwords; the entries added here have this rank. */
const addedRank = 64

/** Passwords in lower case, with their ranks. */
type Ranks = ReadonlyMap<string, number>

let ranks: Promise<Ranks> | undefined

/**
 * Reads the passwords that attackers try first, in lower case, with their ranks: once a process. Not at start: most
 * processes of a service never see a new password.
 */
export function readCommonPasswords(): Promise<Ranks> {
  ranks ??= readRanks().catch((error) => {
    ranks = undefined
    throw error
  })
  return ranks
}

async function readRanks(): Promise<Ranks> {
  const { dictionary } = await import('@zxcvbn-ts/language-common')
  const ranks = new Map<string, number>()
  for (const entry of dictionary['passwords-common'] as string[]) ranks.set(entry, ranks.size + 1)
  for (const entry of added.map(fold)) ranks.set(entry, Math.min(addedRank, ranks.get(entry) ?? addedRank))
  return ranks
}

/**
 * Long passwords that rank high in most collections, the words people build a password from when the old one has
 * expired, and "password", "love" and "hello" in other languages.
 */
const added = `
iloveyouforever iloveyousomuch iloveyouverymuch iloveyoubaby ilovemyself ilovemyfamily ilovemymom ilovemylife
ilovejesus ilovegod thisismypassword mypassword mypasswordis thisispassword neversaymypassword itsasecret dontforget
donotenter changeme changemenow pleaseletmein letmeinplease openthedoor opensesame nopassword newpassword
defaultpassword temporarypassword temppassword administrator superadministrator rootpassword adminpassword systemadmin
passphrase secretpassword supersecret topsecret welcometomylife welcomehome welcometothejungle highschoolmusical
worldofwarcraft counterstrike callofduty leagueoflegends grandtheftauto finalfantasy needforspeed assassinscreed
lordoftherings gameofthrones harrypotter starwars maytheforcebewithyou spongebobsquarepants hellokitty winniethepooh
mickeymouse strawberryshortcake powerrangers teenagemutantninjaturtles manchesterunited manchestercity realmadrid
fcbarcelona liverpoolfc juventus youllneverwalkalone cristianoronaldo lionelmessi mychemicalromance panicatthedisco
avengedsevenfold 30secondstomars thirtysecondstomars linkinpark greenday blink182 metallica michaeljackson
justinbieber justintimberlake onedirection taylorswift redhotchilipeppers gunsnroses ironmaiden ledzeppelin
hannahmontana chrisbrown danielradcliffe marshallmathers californication insaneclownposse systemofadown
stairwaytoheaven bestfriends bestfriendsforever bestfriends4ever togetherforever foreverandever foreveryoung
foreverandalways alwaysandforever butterflykisses daddyslittlegirl daddysgirl babygirl princess diamondprincess
playboybunny playboyprincess chocolate sweetheart onceuponatime happilyeverafter happybirthday merrychristmas
happynewyear godisgood godblessyou jesuschrist jesuslovesme jesusislord trustingod inthenameofgod assalamualaikum
bismillah alhamdulillah allahuakbar thequickbrownfox thequickbrownfoxjumps thequickbrownfoxjumpsoverthelazydog
tobeornottobe carpediem hakunamatata veritasvosliberabit maryhadalittlelamb twinkletwinklelittlestar
supercalifragilisticexpialidocious antidisestablishmentarianism abracadabra abcdefghijklmnopqrstuvwxyz onetwothree
onetwothreefour onetwothreefourfive 3141592653589793 314159265358979 teamareporsiempre teamomucho tequieromucho
amigasporsiempre amorporsiempre contrasena micontrasena motdepasse monmotdepasse jetaimepourtoujours passwort
meinpasswort ichliebedich kennwort wachtwoord senha minhasenha parola lozinka haslo пароль мойпароль любовь йцукен
привет 我的密码 我爱你 パスワード あいしてる 비밀번호 패스워드 사랑해 안녕하세요 monday tuesday wednesday thursday friday saturday sunday january
february march april may june july august september october november december spring summer autumn fall winter
nevergonnagiveyouup 2468101214161820 1357911131517 1123581321345589 pokemongottacatchemall 1qaz2wsx3edc
1qaz2wsx3edc4rfv zaq12wsxcde34rfv qazwsxedcrfvtgb 1q2w3e4r5t6y7u8i 1q2w3e4r5t6y7u8i9o0p q1w2e3r4t5y6u7i8o9p0
qlalfqjsgh dkagh tkfkdgo dkssudgktpdy dkssud
`
  .trim()
  .split(/\s+/)
