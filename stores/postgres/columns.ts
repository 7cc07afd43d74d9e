/** What `toUser` and `toSession` read, told apart where a statement returns both. */
export const user = `u.id AS u_id, u.username AS u_username, u.name_key AS u_name_key, u.password_hash AS u_password_hash,
  u.roles AS u_roles, u.created_at AS u_created_at, u.disabled_at AS u_disabled_at, u.generation AS u_generation`

export const session = `s.id AS s_id, s.user_id AS s_user_id, s.client_id AS s_client_id, s.client_created_at AS s_client_created_at, s.scope AS s_scope,
  s.generation AS s_generation,
  s.counter AS s_counter, s.created_at AS s_created_at, s.refreshed_at AS s_refreshed_at, s.address AS s_address, s.user_agent AS s_user_agent`

/** What `toClient` reads. */
export const client =
  'id, generation, created_at, disabled_at, is_declared, type, grants, scopes, audience, introspect, secrets'
