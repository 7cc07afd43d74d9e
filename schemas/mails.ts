import { Type } from '@sinclair/typebox'

export const Token = Type.String({
  description: 'What the link of the mail has behind `token=`',
  examples: ['lkv_7vB1y0m2…'],
})

/** By which somebody shows that they have read a mail. */
export const Presented = {
  token: Type.Optional(Token),
  id: Type.Optional(
    Type.String({ description: 'That the answer to the request for the mail had; it goes with `code`' }),
  ),
  code: Type.Optional(
    Type.String({
      description: 'The eight digits of the mail; the fifth wrong one is the last',
      examples: ['1234 5678'],
    }),
  ),
}

export const MailAsked = Type.Object({
  id: Type.String({
    description: 'Goes with the code of the mail. It is no secret, and the same for whoever gets none',
  }),
})
