"""One file a step, in order of its revision. A step only adds; what it replaces goes a release later."""
