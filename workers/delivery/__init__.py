"""Takes messages to where people see them: at least once each, and with the same id each time."""
