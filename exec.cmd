@rem npm start says exec, which cmd.exe does not have; it looks for commands here first.
@%*
