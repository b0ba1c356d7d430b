"""DBOSClient: workflows of an application from a program that runs none of them."""
