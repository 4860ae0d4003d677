"""The program: thin verbs over the other rooms. Each verb imports what it needs when it is called."""
