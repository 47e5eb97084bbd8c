# No provider: names and documents are worked out from the variables alone, so this module can be applied offline.
terraform {
  required_version = ">= 1.9.0, < 2.0.0"
}
