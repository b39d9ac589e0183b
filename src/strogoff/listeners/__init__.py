"""Where clients come in: opening listeners, changing them at run time, and the certificates that they present."""
