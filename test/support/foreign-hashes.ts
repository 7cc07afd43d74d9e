/*
 * Hashes that other systems made, or that their authors published. How:
 *
 * - Django, passlib, Python's bcrypt: `make_password` of each hasher at a low cost; `pbkdf2_sha256.using(rounds=2000)
 *   .hash(…)` and the like; `bcrypt.hashpw(…, bcrypt.gensalt(5))`.
 * - WordPress: `class-phpass.php` of Debian's package, as `wp_hash_password()` calls it; `wp_hash_password()` of 6.8 at
 *   cost 5. "By the form" went through `addslashes()`, as `wp_magic_quotes()` has every `$_POST`.
 * - PHP: `password_hash()`. better-auth: `hashPassword()` of `better-auth/crypto`.
 * - Keycloak: `encodedCredential()` of `Pbkdf2PasswordHashProvider` and `Argon2PasswordHashProvider`, from the jars of the
 *   release.
 * - Firebase: the README of firebase/scrypt. ASP.NET: `PasswordHasherTest.cs` of dotnet/aspnetcore.
 */

export interface Vector {
  by: string
  password: string
  hash: string
}

const usual = 'Garçon, 3 내 비밀번호 🔑 horses'

export const vectors: Vector[] = [
  {
    by: 'Django 5.2.8: pbkdf2_sha256',
    password: usual,
    hash: 'pbkdf2_sha256$20000$4BwZklKJ8vDSF5CmqVVSIv$WErisrTMsZ4tyeUTScxNKOEpyQ7nuQr6LDKJseLZVbA=',
  },
  {
    by: 'Django 5.2.8: pbkdf2_sha1',
    password: usual,
    hash: 'pbkdf2_sha1$20000$X7x4P197Lsjp1rSDu5D76i$dNiPnSyMSt3AhzLsp46U05wLhDs=',
  },
  {
    by: 'Django 5.2.8: argon2',
    password: usual,
    hash: 'argon2$argon2id$v=19$m=4096,t=3,p=2$S0oyQnFpQkpsVWF6OERWQW9mbU4yMQ$37qQICbwHPNJjY7hI7CKs8t2yRYPtZqd2Dzh2qxA7pM',
  },
  {
    by: 'Django 5.2.8: bcrypt_sha256',
    password: usual,
    hash: 'bcrypt_sha256$$2b$05$pg26TuDrvom0gdlNxCtNk.9iM0QTjDixmsYZShfSQ3iY2gOlvDKmy',
  },
  {
    by: 'Django 5.2.8: bcrypt',
    password: usual,
    hash: 'bcrypt$$2b$05$ApLnuI.uwGFHBI0VlqH0J..jqsnz.v4UcW5thti8LUQwDpCABQqQy',
  },
  {
    by: 'Django 5.2.8: scrypt',
    password: usual,
    hash: 'scrypt$4096$RxMubxkS976nzaz3U0uBIO$8$5$Jpegu9dejf4MQ9tSiwF1iwmQaIecxY+zCWkRbypbzZP4oOWrRu8CAkecT4TtkKr3Ff8IGBT/GBOSKTDOVPmCVA==',
  },
  { by: 'Django 5.2.8: md5', password: usual, hash: 'md5$bd3r3r4ivEgfsHCryX1NMg$b1eaeb09391268239da937997b2aa880' },
  {
    by: 'passlib 1.7.4: pbkdf2_sha1',
    password: usual,
    hash: '$pbkdf2$2000$IiTEuJeytva.V.p9T6n1/g$9U6BVhe9Of7b6CblN3TMS1OpwTs',
  },
  {
    by: 'passlib 1.7.4: pbkdf2_sha256',
    password: usual,
    hash: '$pbkdf2-sha256$2000$1XoPofT.3/v/v1fqfe89Jw$nkkR.q6un6EyE4eBLByXgw6JWT6NUwFRXllvMlLzhrU',
  },
  {
    by: 'passlib 1.7.4: pbkdf2_sha512',
    password: usual,
    hash: '$pbkdf2-sha512$2000$4FzLeQ/BWIsx5vzfO0fo/Q$6XMfDlCss5OOPhL4Sjb4RNS.91fjMd37xW2V61ryIXoG2vudUqZtUGXYp9Z6UN5ieNGzna5WATdbMuW98PzbkQ',
  },
  {
    by: 'passlib 1.7.4: scrypt',
    password: usual,
    hash: '$scrypt$ln=10,r=8,p=1$v/feG4Nwbk2JUQrB+P9fCw$UozYE1QJykAAgyxxN7RS87cMz5268AU6i2ANYVNG2z0',
  },
  { by: 'passlib 1.7.4: phpass', password: usual, hash: '$P$6mqhW9DS7YJYoFtKXUseiOEL9a6p1p1' },
  {
    by: 'Python bcrypt 5.0.0: bcrypt 2a',
    password: usual,
    hash: '$2a$05$V7L6TgQca1cdi3jS0EiVy.5vBBGDrnOApu5g2IKbo7rcpkyKFEVGe',
  },
  {
    by: 'Python bcrypt 5.0.0: bcrypt of more than 72 bytes',
    password: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxééé tail',
    hash: '$2b$05$tzAGaczEpZOHPs/ch8qrZeLuVKeESuCzLMXmLnx7DA3dwjIm0JI0y',
  },
  {
    by: "WordPress 6.1.9's class-phpass.php, PHP 8.2.36: phpass",
    password: usual,
    hash: '$P$BOhJaLEo768haOiuZLWn7dhq3DJzMn1',
  },
  {
    by: "WordPress 6.1.9's class-phpass.php, PHP 8.2.36: phpass, spaces around",
    password: '  spaces around it \t',
    hash: '$P$Bn5TE0GhlI0LRlZGSjWNawD1K./dEG0',
  },
  {
    by: "WordPress 6.1.9's class-phpass.php, PHP 8.2.36: phpass, by the form",
    password: 'it\'s a "long" pass\\word',
    hash: '$P$B3HpoWQIl1mQ4zHADLfMcn5q72L8UN/',
  },
  {
    by: "WordPress 6.1.9's class-phpass.php, PHP 8.2.36: phpass, by the API",
    password: 'it\'s a "long" pass\\word',
    hash: '$P$BxRrBzPIzTwRd7aB9nJ50/yusRM83q1',
  },
  {
    by: 'wp_hash_password() of WordPress 6.8, PHP 8.2.36: $wp$2y$',
    password: usual,
    hash: '$wp$2y$05$jxo0Ii.TeN2lA1Je8/h0FuClv1oqhdITVyo3VyptS5nLgALJoz2vi',
  },
  {
    by: 'wp_hash_password() of WordPress 6.8, PHP 8.2.36: $wp$2y$, spaces around',
    password: '  spaces around it \t',
    hash: '$wp$2y$05$.b4KiP.WA8D7i4n8b4bqguku48KmaeVGx3dYgn.Ht/YCS8nFSn6Ye',
  },
  {
    by: 'wp_hash_password() of WordPress 6.8, PHP 8.2.36: $wp$2y$, by the form',
    password: 'it\'s a "long" pass\\word',
    hash: '$wp$2y$05$tbG4E0cFsavqFKU1TiLOg.symU9v/Fo.Vnk/rCCKDmLCJ9GDyEBMO',
  },
  {
    by: 'PHP 8.2.36: password_hash, bcrypt',
    password: usual,
    hash: '$2y$05$j70C2DvH/hdx3HZ5thZ13eKnYYSaHQ0QlpKNCvvfyS7UPwEXR4cKq',
  },
  {
    by: 'PHP 8.2.36: password_hash, argon2id',
    password: usual,
    hash: '$argon2id$v=19$m=4096,t=2,p=1$WDF0U3JmOWthYjhZcHpaTQ$A+05Fq6eO2E9oUCn1vCFX/K8lTV6Z+nnfE2W0W4lV0A',
  },
  {
    by: 'PHP 8.2.36: password_hash, argon2i',
    password: usual,
    hash: '$argon2i$v=19$m=4096,t=3,p=1$UHdPaE9lM1Yydm1Fdzc3ZQ$Jv6Ij4cimFRzUN2NvjuW834i0YOhqOjJ97Gh5rzSv9Y',
  },
  {
    by: 'PHP 8.2.36: bcrypt of more than 72 bytes',
    password: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxééé tail',
    hash: '$2y$05$bBXLOdvPPaJ69BjHjWzHp.Qzv1WasVJ.T6JB7xbEmtrBFIqxIoW6q',
  },
  {
    by: 'better-auth 1.7.25: salt:hex',
    password: usual,
    hash: '584e7be26b777a21c9e098a5cfd22a41:1aa400994c891b5e5b22108df11556f9e1f6bc48e7161ccc93847baa6594fbaabac12c1495f99933c56285e325e59fc3a18be36e6111805aebdde091d4a11b58',
  },
  {
    by: 'better-auth 1.7.25: salt:hex',
    password: 'ﬁne ① half-width ｶﾞ passwords',
    hash: '023df4bf1a547b4aa2496aee0dc90320:3a24487369bcde76eb3eae33bd3bf10f97d8b0eabbdd97ba0279040b47adb24d102c895281efd6e687d23f3f8b9040a85ef42fe9438c999f828c2821c1376c58',
  },
  {
    by: 'ASP.NET Core Identity, PasswordHasherTest 1',
    password: 'my password',
    hash: 'AAABAgMEBQYHCAkKCwwNDg+ukCEMDf0yyQ29NYubggHIVY0sdEUfdyeM+E1LtH1uJg==',
  },
  {
    by: 'ASP.NET Core Identity, PasswordHasherTest 2',
    password: 'my password',
    hash: 'AQAAAAAAAAD6AAAAEAhftMyfTJylOlZT+eEotFXd1elee8ih5WsjXaR3PA9M',
  },
  {
    by: 'ASP.NET Core Identity, PasswordHasherTest 3',
    password: 'my password',
    hash: 'AQAAAAIAAAAyAAAAEOMwvh3+FZxqkdMBz2ekgGhwQ4B6pZWND6zgESBuWiHw',
  },
  {
    by: 'ASP.NET Core Identity, PasswordHasherTest 4',
    password: 'my password',
    hash: 'AQAAAAIAAAD6AAAAIJbVi5wbMR+htSfFp8fTw8N8GOS/Sje+S/4YZcgBfU7EQuqv4OkVYmc4VJl9AGZzmRTxSkP7LtVi9IWyUxX8IAAfZ8v+ZfhjCcudtC1YERSqE1OEdXLW9VukPuJWBBjLuw==',
  },
]

export const keycloakCredentials = [
  {
    by: 'Keycloak 26.0.7: pbkdf2-sha512',
    password: usual,
    secretData:
      '{"value":"WWuTZrMIiN3FpWCU5WfjeRudTTxSWVISK2o65OPF0egScwMhW6SUl7acxFf5KO1FJTYrjHw/sK7gOxOIsejLPg==","salt":"wsT2Z6kKUBsxwCoDqvWS7g==","additionalParameters":{}}',
    credentialData: '{"hashIterations":2000,"algorithm":"pbkdf2-sha512","additionalParameters":{}}',
  },
  {
    by: 'Keycloak 26.0.7: pbkdf2-sha256',
    password: usual,
    secretData:
      '{"value":"2yKVe/oe+7JRr76pqzLuUstXfsi/mqGz9Trv6+KDGSHymUGHKyRvfzjbCsHaeanqRD1vr46usOPjEwP1DiGW/A==","salt":"sedI6a5vJKp68fmb8lhQ2g==","additionalParameters":{}}',
    credentialData: '{"hashIterations":2750,"algorithm":"pbkdf2-sha256","additionalParameters":{}}',
  },
  {
    by: 'Keycloak 26.0.7: pbkdf2',
    password: usual,
    secretData:
      '{"value":"rULWXoHgmaLBY2ZD1SqBbO539ljyUpzyAF9XrYGXxeX78/HguC0gwyhNpqvAd7RGD42IMMKo/jfJXrDQ3+niaQ==","salt":"Xg94Y8PD1MLgPjohTsxr6Q==","additionalParameters":{}}',
    credentialData: '{"hashIterations":2000,"algorithm":"pbkdf2","additionalParameters":{}}',
  },
  {
    by: 'Keycloak 26.0.7: argon2',
    password: usual,
    secretData:
      '{"value":"d6st+7uli+jfQQNcZaYP7snB2cXdxZJkU+Qp9qycrEo=","salt":"2NaTp3zIU4QK/PUnQNv6zQ==","additionalParameters":{}}',
    credentialData:
      '{"hashIterations":5,"algorithm":"argon2","additionalParameters":{"hashLength":["32"],"memory":["7168"],"type":["id"],"version":["1.3"],"parallelism":["1"]}}',
  },
]

export const firebase = {
  password: 'user1password',
  user: {
    passwordHash: 'lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==',
    salt: '42xEC+ixf3L2lw==',
  },
  config: {
    base64_signer_key: 'jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==',
    base64_salt_separator: 'Bw==',
    rounds: 8,
    mem_cost: 14,
  },
}
