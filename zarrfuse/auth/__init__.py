"""Where keys come from. No secret leaves this package but inside a Credentials value."""
