"""The part of torch that kura.torch uses. `npm test` does not download the real one, which has gigabytes."""
