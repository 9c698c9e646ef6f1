"""One bucket behind a narrow protocol, its adapters, and wrappers that add one behaviour each."""
