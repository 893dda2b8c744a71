"""Our environments in the interfaces of other libraries: Gymnasium's and Brax's."""
