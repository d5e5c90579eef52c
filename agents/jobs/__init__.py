"""The jobs behind the command line, one to a file: read what is named, work under a bar, write what comes out."""
