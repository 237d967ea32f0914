"""Google Cloud Storage in the test process: JSON, upload and XML API over one store (see `server`)."""
