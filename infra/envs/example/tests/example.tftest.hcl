# Run with the variables of terraform.tfvars.example, as it stands and with everything in it.
mock_provider "aws" {}

run "the_example_is_complete" {
  assert {
    condition     = output.repositories == ["s3://${var.data_bucket}/archive"]
    error_message = "The repositories are somewhere else: ${jsonencode(output.repositories)}."
  }

  assert {
    condition     = yamldecode(output.lithops_config).aws_s3.storage_bucket == var.staging_bucket
    error_message = "Lithops would look for its bucket somewhere else."
  }

  assert {
    condition     = contains(keys(output.role_arns), "client")
    error_message = "Nobody could convert."
  }
}
