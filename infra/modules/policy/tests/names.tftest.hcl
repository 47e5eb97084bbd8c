# Names are those that Lithops computes. The digests here were taken with sha1sum, not with Terraform.
variables {
  name           = "frazil"
  account_id     = "111122223333"
  region         = "eu-central-1"
  data_bucket    = "example-data"
  staging_bucket = "example-staging"
  repositories   = ["archive"]
}

run "functions_have_lithops_names" {
  command = plan

  variables {
    memory_sizes = [2048, 512]
  }

  assert {
    condition = output.function_names == tomap({
      "2048" = "lithops-worker-azil-380-ecfdc3e848"
      "512"  = "lithops-worker-azil-380-311f3b320f"
    })
    error_message = "The functions' names are not Lithops': ${jsonencode(output.function_names)}."
  }

  assert {
    condition     = output.metadata_keys["512"] == "lithops.runtimes/aws_lambda/3.8.0/eu-central-1/lithops-worker-azil-380-311f3b320f.meta.json"
    error_message = "The metadata's key is not Lithops': ${output.metadata_keys["512"]}."
  }

  assert {
    condition     = yamldecode(output.lithops_config).aws_lambda.runtime_memory == 2048
    error_message = "The configuration's memory is not the first of memory_sizes."
  }
}

run "a_user_id_counts_up_to_its_colon_in_small_letters" {
  command = plan

  variables {
    user_id = "AROAEXAMPLEWXYZ:session-name"
  }

  assert {
    condition     = startswith(output.function_names["2048"], "lithops-worker-wxyz-380-")
    error_message = "The name does not hold the four characters before the colon: ${output.function_names["2048"]}."
  }

  assert {
    condition     = output.image.uri == "111122223333.dkr.ecr.eu-central-1.amazonaws.com/lithops_v380_wxyz/frazil:0.1.0"
    error_message = "The image is not where Lithops would push it: ${output.image.uri}."
  }
}

run "runs_live_beside_their_repositories" {
  command = plan

  variables {
    repositories = ["archive", "climate/era5"]
  }

  assert {
    condition     = output.run_prefixes == tolist(["archive.frazil/", "climate/era5.frazil/"])
    error_message = "Runs would live at ${jsonencode(output.run_prefixes)}."
  }
}
