"""What reaches outside: sources that documents come from, and the guard of every address that is called."""
